import { configOf } from '../vitest.config.ts';

// What is done about losses: kills, failovers, alterations, backups, restores, moves, several nodes. Apart from `npm test`, because it takes long; CI runs both.

export default configOf({ include: ['test/drills/**/*.test.ts'] });
