"""300 api_keys: keys that exporters send with; people make them, gateways check them."""
