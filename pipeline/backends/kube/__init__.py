"""Kubernetes and OME: what backend=ome (pipeline/backends/ome.py) is made of."""
