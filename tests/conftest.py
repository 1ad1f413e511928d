"""No test reaches the network, and none waits for a hub."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported: commands, which say so too, are not the first here
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
