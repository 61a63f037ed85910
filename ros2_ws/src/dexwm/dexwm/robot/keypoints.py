"""The 21 keypoints of a hand, and where they are read from the Allegro hand.

Order and meaning are MANO's (Romero et al., "Embodied Hands", 2017): the wrist, then thumb, index,
middle, ring and little finger, each from its base to its tip: for a finger MCP, PIP, DIP, tip; for
the thumb CMC, MCP, IP, tip.

The Allegro hand has no little finger: its ring finger stands in for it, so the last four rows
repeat the four before. Each of its fingers has four joints: a spread joint (a thumb's first joint:
opposition) and three that follow one another along the finger. The origins of these three are the
places where a human finger bends. The spread joint lies 16 mm below the first of them, inside the
palm, so its origin is left out. The last point is the centre of the rubber fingertip, not the last
joint: the tip is what touches. The wrist is the face of the hand that is bolted to the arm.
"""

from __future__ import annotations

KEYPOINT_FRAMES: dict[str, str] = {
    'wrist': 'allegro_wrist',
    'thumb_cmc': 'link_13.0',
    'thumb_mcp': 'link_14.0',
    'thumb_ip': 'link_15.0',
    'thumb_tip': 'link_15.0_tip',
    'index_mcp': 'link_1.0',
    'index_pip': 'link_2.0',
    'index_dip': 'link_3.0',
    'index_tip': 'link_3.0_tip',
    'middle_mcp': 'link_5.0',
    'middle_pip': 'link_6.0',
    'middle_dip': 'link_7.0',
    'middle_tip': 'link_7.0_tip',
    'ring_mcp': 'link_9.0',
    'ring_pip': 'link_10.0',
    'ring_dip': 'link_11.0',
    'ring_tip': 'link_11.0_tip',
    'little_mcp': 'link_9.0',
    'little_pip': 'link_10.0',
    'little_dip': 'link_11.0',
    'little_tip': 'link_11.0_tip',
}
"""For each keypoint, in order, the frame of the robot description whose origin it is."""

KEYPOINTS: tuple[str, ...] = tuple(KEYPOINT_FRAMES)
"""Names of the 21 keypoints in order."""
