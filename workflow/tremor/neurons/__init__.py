"""Neurons and layers: which of them a fact needs, and how much a layer's change changes the answer."""
