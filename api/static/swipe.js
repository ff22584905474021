// Swiping a card: right, left or up. The card follows the finger; past the threshold letting go decides.

const THRESHOLD = 84; // CSS pixels
const FLICK = 0.55; // pixels a millisecond

/**
 * Watches `card`. `lean(direction, share)` is told where the card leans while it is held (share 0 to 1, direction
 * null when it hangs free); `decide(direction)` is called once when it is let go past the threshold.
 */
export function swipe(card, { lean, decide }) {
  let start = null;

  const place = (x, y) => {
    card.style.setProperty('--drag-x', `${x}px`);
    card.style.setProperty('--drag-y', `${y}px`);
  };
  const release = () => {
    start = null;
    card.classList.remove('held');
    lean(null, 0);
  };

  const towards = (x, y) => {
    const upIsFree = !card.classList.contains('tall');
    if (upIsFree && y < 0 && -y > Math.abs(x)) return { direction: 'up', distance: -y };
    if (Math.abs(x) > Math.abs(y)) return { direction: x > 0 ? 'right' : 'left', distance: Math.abs(x) };
    return { direction: null, distance: 0 };
  };

  card.addEventListener('pointerdown', (event) => {
    // A mouse selects text; it has buttons and keys to answer with.
    if (event.pointerType === 'mouse' || !event.isPrimary) return;
    start = { id: event.pointerId, x: event.clientX, y: event.clientY, at: event.timeStamp, moved: false };
  });

  card.addEventListener('pointermove', (event) => {
    if (event.pointerId !== start?.id) return;
    const x = event.clientX - start.x;
    const y = event.clientY - start.y;
    if (!start.moved && Math.hypot(x, y) < 8) return;
    if (!start.moved) {
      start.moved = true;
      card.setPointerCapture(event.pointerId);
      card.classList.add('held');
    }
    const { direction, distance } = towards(x, y);
    place(direction === 'up' ? 0 : x, direction === 'up' ? y : 0);
    lean(direction, Math.min(1, distance / THRESHOLD));
  });

  card.addEventListener('pointerup', (event) => {
    if (event.pointerId !== start?.id) return;
    const { direction, distance } = towards(event.clientX - start.x, event.clientY - start.y);
    const speed = distance / Math.max(1, event.timeStamp - start.at);
    const decided = start.moved && direction && (distance >= THRESHOLD || (distance > 32 && speed > FLICK));
    release();
    if (decided) decide(direction);
    else place(0, 0);
  });

  card.addEventListener('pointercancel', (event) => {
    if (event.pointerId !== start?.id) return;
    release();
    place(0, 0);
  });
}
