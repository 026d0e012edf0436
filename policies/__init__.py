"""The policies that come with Frys, one YAML file per isolation level."""
