"""Who may sign requests, what each key may do, and the server's own key."""
