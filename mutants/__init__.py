"""Would a test notice? Small changes of the code, one at a time, each run with the tests beside it."""
