"""The console: pages for people, at ``/console``. Made by the server, readable without scripts."""
