"""Real devices behind the Robot interface: arms, cameras, teleoperation."""
