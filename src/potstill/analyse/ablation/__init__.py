"""What each part of an experiment is worth, from figures that runs left; plain values in, plain values out."""
