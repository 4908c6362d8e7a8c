"""PyTorch: images as BLOBs beside their labels, trained for an epoch, and gone on with after a stop.

The images are the handwritten digits that scikit-learn ships, as PNG files.
"""

import io

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader

import fletching
from fletching.connectors.torch import FletchingDataset


def png(pixels):
    """The bytes of an image file, as a camera or a crawler would give them."""
    file = io.BytesIO()
    Image.fromarray((pixels * 15).astype(np.uint8)).save(file, format="PNG")
    return file.getvalue()


def decode(data):
    """What a worker makes of a blob: a tensor of one channel, between 0 and 1."""
    with Image.open(io.BytesIO(data)) as image:
        return torch.from_numpy(np.array(image, dtype=np.float32) / 255).unsqueeze(0)


if __name__ == "__main__":
    torch.manual_seed(7)
    digits = load_digits()
    with fletching.serve("./data", port=0) as server:
        access_id, access_key = server.access_key
        with fletching.connect(server.url, access_id=access_id, access_key=access_key) as client:
            table = client.create_table("digits", "label BIGINT, image BLOB", if_not_exists=True)
            table.overwrite(
                {"label": digits.target, "image": [png(each) for each in digits.images]}
            )
            dataset = FletchingDataset(
                table, batch_size=64, shuffle=True, seed=7, decode={"image": decode}
            )
            # Batches are made by the dataset; a worker decodes what it fetched ahead.
            loader = DataLoader(dataset, batch_size=None, num_workers=1)
            model = torch.nn.Sequential(
                torch.nn.Conv2d(1, 16, 3), torch.nn.ReLU(), torch.nn.Flatten(),
                torch.nn.Linear(16 * 6 * 6, 10),
            )  # fmt: skip
            optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
            seen = right = 0
            for batch in loader:
                scores = model(batch["image"])
                loss = torch.nn.functional.cross_entropy(scores, batch["label"])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                seen += len(batch["label"])
                right += int((scores.argmax(1) == batch["label"]).sum())
            print(f"{seen} images, {right / seen:.0%} told right while learning")
            assert seen == len(digits.target)
            assert right / seen > 0.5

            # A job that stops in the middle goes on with the rows that it has not seen.
            dataset.set_epoch(1)
            first = next(iter(dataset))
            state = dataset.state_dict()
            later = FletchingDataset(
                table, batch_size=64, shuffle=True, seed=7, decode={"image": decode}
            )
            later.load_state_dict(state)
            rest = sum(len(batch["label"]) for batch in later)
            assert len(first["label"]) + rest == seen
            print(f"resumed: {rest} images of the second epoch were left")
            later.close()
            dataset.close()
