"use strict";
// Images as tiles: level k is the image halved k times, cut into squares of DATA.tile pixels. Only tiles in sight load.
// A file that was made to be sent has its images inside (DATA.files), one resolution each.
const thumbOf = (id) => (DATA.files ? DATA.files[id] : `thumbs/${id}.webp`);
const KEEP = 80; // tiles of an image that stay in the page when they are out of sight

// A world is an image at its own pixels; `put` moves and scales it.
function worldOf(image) {
  const world = element("div", { class: "world" }), [w, h] = image.size;
  world.image = image;
  world.tiles = new Map();
  const base = element("img", { src: thumbOf(image.id), alt: "", draggable: "false" });
  for (const part of [world, base]) Object.assign(part.style, { width: `${w}px`, height: `${h}px` });
  world.append(base);
  return world;
}

// Show the point (x, y), in fractions of the image, at (left, top) of a box of the given size.
function put(world, zoom, x, y, at, box) {
  const [w, h] = world.image.size;
  const left = at.left - x * w * zoom, top = at.top - y * h * zoom;
  world.style.transform = `translate(${left}px, ${top}px) scale(${zoom})`;
  const sight = { left: -left / zoom, top: -top / zoom, right: (box.width - left) / zoom, bottom: (box.height - top) / zoom };
  const density = zoom * (window.devicePixelRatio || 1);
  world.classList.toggle("sharp", density >= 2);
  if (!DATA.files) loadTiles(world, density, sight);
  return { left, top };
}

function loadTiles(world, density, sight) {
  const { image, tiles } = world, [w, h] = image.size;
  const level = Math.max(0, Math.min(image.levels - 1, Math.floor(-Math.log2(Math.max(density, 1e-6)))));
  const side = DATA.tile * 2 ** level, wanted = new Set();
  for (let row = Math.max(0, Math.floor(sight.top / side)); row * side < Math.min(h, sight.bottom); row++) {
    for (let column = Math.max(0, Math.floor(sight.left / side)); column * side < Math.min(w, sight.right); column++) {
      const name = `${level}-${column}-${row}`;
      wanted.add(name);
      if (tiles.has(name)) continue;
      const tile = element("img", { src: `tiles/${image.id}/${name}.webp`, alt: "", draggable: "false" });
      Object.assign(tile.style, {
        left: `${column * side}px`, top: `${row * side}px`, zIndex: 20 - level,
        width: `${Math.min(side, w - column * side)}px`, height: `${Math.min(side, h - row * side)}px`,
      });
      tiles.set(name, tile);
      world.append(tile);
    }
  }
  for (const [name, tile] of tiles) {
    if (tiles.size <= KEEP) break;
    if (!wanted.has(name)) { tile.remove(); tiles.delete(name); }
  }
}
