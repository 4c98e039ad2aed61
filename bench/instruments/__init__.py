"""One module per instrument: ``ORDER`` (an int) and ``measure(context) -> list[Row]``.

Optional: ``DEVICES``, the device types the module runs on; ("cpu", "cuda") unless it says otherwise.
"""
