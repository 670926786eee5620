"""Load control: fair queues for the work of the process, and refusal of the excess."""
