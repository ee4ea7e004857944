"""How fast and how large bundles and runs are, each in processes of its own, taking turns."""
