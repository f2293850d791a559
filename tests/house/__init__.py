"""The house: layers, types, packaging, documentation."""
