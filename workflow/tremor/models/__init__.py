"""Models: catalogue, loading, anatomy, manifests and the training of the embedded ones."""
