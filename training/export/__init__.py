"""Networks in the formats of other programs, and plain files of arrays."""
