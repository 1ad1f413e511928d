"""No test reaches the network, none waits for a hub, and none fails for being slow."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported: commands, which say so too, are not the first here
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from hypothesis import settings

# How long one example takes says more about the machine than about the code.
settings.register_profile("project", deadline=None)
settings.load_profile("project")
