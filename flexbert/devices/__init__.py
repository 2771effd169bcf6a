"""The machine below the model: whether a GPU can be used, and what it computes with.

``nvidia``            why a GPU that is there cannot be used
``triton_toolchain``  why Triton cannot make kernels here
``float32``           float32 that is float32, and not TF32
``gpus``              rates and memory of GPUs by name
``peak_flops``        how fast a device here multiplies matrices
``device_errors``     errors that speak of the device and not of what ran on it
"""
