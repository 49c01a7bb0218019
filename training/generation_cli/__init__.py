"""The commands of run_generator.py beside `generate-images`."""
