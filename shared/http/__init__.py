"""The HTTP layer of the control plane: routes with models and permissions, and what all share."""
