"""The kernel's own interfaces, one module for each; the only code that uses ctypes."""
