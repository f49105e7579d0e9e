"""Codes at the shop: what they are worth, and how a provider is asked to make them and to take them out of use."""
