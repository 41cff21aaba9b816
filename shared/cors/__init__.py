"""Which pages of other origins may call the API (cross-origin resource sharing)."""
