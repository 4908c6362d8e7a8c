"""PyTorch Lightning: training that stops in the middle of an epoch, and goes on with the rows not yet read."""

import pyarrow as pa
import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torchdata.stateful_dataloader import StatefulDataLoader

import fletching
from fletching.connectors.torch import FletchingDataset


class Model(lightning.LightningModule):
    """Sums a point's coordinates, and notes which points it has seen."""

    def __init__(self, dataset):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.dataset = dataset
        self.seen = []

    def on_train_epoch_start(self):
        # Lightning tells samplers alone; without this each epoch has the first one's order.
        self.dataset.set_epoch(self.current_epoch)

    def training_step(self, batch, _):
        self.seen += batch["id"].tolist()
        return (self.layer(batch["x"]).squeeze() - batch["x"].sum(1)).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(model, workers=2, checkpoint=None, **options):
    """Trains with a loader that has a state, which Lightning keeps in its checkpoints."""
    saving = ModelCheckpoint(
        dirpath="./checkpoints", filename="{step}", every_n_train_steps=12, save_top_k=-1
    )
    trainer = lightning.Trainer(
        accelerator="cpu", devices=1, logger=False, callbacks=[saving],
        enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    loader = StatefulDataLoader(model.dataset, batch_size=None, num_workers=workers)
    trainer.fit(model, loader, ckpt_path=checkpoint)


if __name__ == "__main__":
    with fletching.serve("./data", port=0) as server:
        access_id, access_key = server.access_key
        client = fletching.connect(
            server.url, project="demo", access_id=access_id, access_key=access_key
        )
        schema = pa.schema([("id", pa.int64()), ("x", pa.list_(pa.float32(), 2))])
        points = client.create_table("points", schema, if_not_exists=True)
        points.overwrite({"id": range(320), "x": [[n / 512, 1 - n / 512] for n in range(320)]})

        # Ten batches an epoch: twelve steps end in the second.
        first = Model(FletchingDataset(points, batch_size=32, shuffle=True))
        fit(first, max_steps=12)
        assert sorted(first.seen[:320]) == list(range(320))

        second = Model(FletchingDataset(points, batch_size=32, shuffle=True))
        fit(second, checkpoint="./checkpoints/step=12.ckpt", max_epochs=2)
        print(len(first.seen), "rows, and", len(second.seen), "after going on")
        assert sorted(first.seen[320:] + second.seen) == list(range(320))
        client.close()
