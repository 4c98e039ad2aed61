"""Artifacts on disk: HDF5, CSV, Parquet and JSON, written atomically, checksummed, with provenance; no torch.

Nothing is re-exported here: a job that writes one JSON file shall not pay for importing pandas or h5py.
"""
