"""The safety layer: deterministic, before the model, able to raise urgency and never lower it."""

from medtune.safety.assess import Assessment, assess

__all__ = ["Assessment", "assess"]
