"""Augmentation of what D sees: the adaptive pipeline, DiffAugment, zooming, and the control of its strength."""
