"""Three trainers as anybody may have written them: nothing here knows of `sweeper`."""
