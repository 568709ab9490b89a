"""Ray: what changes when one machine is not enough."""
