"""Classes that other products load: each module is named like the product, and needs it installed."""
