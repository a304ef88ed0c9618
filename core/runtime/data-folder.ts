/**
 * The data folder where none is named: `WARIFU_DATA`, or `data` here. An installed package sets the former to where this machine's conventions
 * have it; in a checkout, a trial stays within it, and goes with it.
 */
export const defaultDataFolder: string = process.env.WARIFU_DATA || 'data';

/** What is wrong where a folder is not there, and what to do. */
export const noDataFolder = (folder: string): string =>
  `there is no data folder ${folder}: name one by --data or WARIFU_DATA; the first start makes one`;
