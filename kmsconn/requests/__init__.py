"""From a log or a post to a durable answer: readers, dispatcher, pools, stages, checks, and what becomes of a failure."""
