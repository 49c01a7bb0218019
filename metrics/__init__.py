"""Distances between the images of a generator and those of a dataset."""
