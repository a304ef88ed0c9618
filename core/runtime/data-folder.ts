/**
 * The data folder where none is named: `WARIFU_DATA`, or `data` here. An installed package sets the former to where this machine's conventions
 * have it; in a checkout, a trial stays within it, and goes with it.
 */
export const defaultDataFolder: string = process.env.WARIFU_DATA || 'data';
