"""800 audit: who did what, from the events of all contexts; provably unaltered."""
