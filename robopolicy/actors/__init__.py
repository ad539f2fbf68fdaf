"""Who decides: policies, replays, scripts, people. All satisfy `robopolicy.control.actor.Actor`."""
