"""What only a mesh of several devices can get wrong: who holds which head, who agrees with whom, and with one device alone."""
