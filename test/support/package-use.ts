// How a program is compiled that uses one of the project's packages, from where it was installed.

/** Options of `tsc`; `root` is the project's, for the types of Node. */
export const useOptions = (root: string): string[] => [
  ...['--ignoreConfig', '--strict', '--noEmit', '--target', 'es2022', '--module', 'nodenext'],
  ...['--types', 'node', '--typeRoots', `${root}/node_modules/@types`],
];
