"""lm-eval tasks on the device model and on its golden: the adapter, the tasks that need no network, the paired verdict."""
