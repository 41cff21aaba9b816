"""Routes, with the models of what goes in and out."""
