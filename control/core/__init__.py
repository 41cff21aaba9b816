"""100 core: regions, organizations, workspaces, tenants, people, and who may do what."""
