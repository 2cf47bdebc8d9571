"""`finetune plan`: what a run will take, from the survey and a few of its own steps."""
