"""The commands of dataset_tool.py: every module parses, and calls functions that work."""
