import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { objects } from '../../ca/api/access-matrix.ts';
import { approvalActs, consoleActs } from '../../core/model/approval.ts';
import { deskFunctions, functionsOfKind } from '../../core/model/desk.ts';

// docs/ACCESS.md: its tables are of the code.

const document = readFileSync(new URL('../../docs/ACCESS.md', import.meta.url), 'utf8');
const rows = [...document.matchAll(/^\| (.*) \|$/gm)].map(([, cells = '']) => cells.split(' | '));
const codes = (text = ''): string[] => [...text.matchAll(/`([a-z-]+)`/g)].map(([, code = '']) => code);

describe('the document of access', () => {
  it('says of each kind of desk what it may at most', () => {
    const kinds = rows.filter(([kind = '', , most]) => codes(kind)[0] !== undefined && most !== undefined);
    expect(Object.fromEntries(kinds.map(([kind, , most]) => [codes(kind)[0], codes(most)]))).toEqual(
      functionsOfKind,
    );
  });

  it('says of each function, and of each act that waits, what it is', () => {
    const named = rows.filter((cells) => cells.length === 2).flatMap(([cell]) => codes(cell));
    expect(named.sort()).toEqual(
      [...deskFunctions, ...Object.keys({ ...approvalActs, ...consoleActs, ...objects })].sort(),
    );
  });
});
