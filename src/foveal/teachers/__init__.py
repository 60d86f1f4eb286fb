"""Frozen recognisers behind one protocol: images in [0, 1] in, class logits out."""
