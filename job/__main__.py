"""`python -m job`: the same as the console script `finetune`."""

from job.cli import main

# Worker processes import this module again; without the guard each would start the job.
if __name__ == "__main__":
    main()
