"""What HTTP carries around messages: headers, targets, codings, errors, signatures."""
