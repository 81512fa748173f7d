"""The devices: the mesh and what is held on it, how tensors are spread over it, its links and its command queues."""
