"""What `finetune demo` needs and a real job does not: generated images, and an object store to train from and to."""
