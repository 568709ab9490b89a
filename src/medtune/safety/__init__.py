"""The safety layer: deterministic, before the model, able to raise urgency and never lower it."""

from medtune.safety.assess import Assessment, Span, assess

__all__ = ["Assessment", "Span", "assess"]
