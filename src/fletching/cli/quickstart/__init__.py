"""The main job on real input: write over HTTP, read back in parallel, prove that all came back."""
