import { Type } from 'typebox';
import { text } from '../../core/config/values.ts';
import municipalities from './municipalities.json' with { type: 'json' };

/** The municipalities that certificates are issued for: in the configuration, or in a file of their own. */
export const towns = {
  municipalitiesFile: Type.Optional(
    Type.String({
      minLength: 1,
      description:
        'file with the municipalities, relative to the data folder, as warifu towns import writes it: in the place of municipalities',
    }),
  ),
  municipalities: Type.Array(
    Type.Object(
      {
        code: Type.String({ pattern: '^[0-9]{5}$', description: 'JIS X 0401/0402 code' }),
        prefecture: text('', 'romanized, as CRL distribution points name it'),
        municipality: text('', 'romanized, as CRL distribution points name it'),
        mergedInto: Type.Optional(
          Type.String({
            pattern: '^[0-9]{5}$',
            description:
              'code of the town that it is part of now: what was issued for it goes on under that one',
          }),
        ),
      },
      { additionalProperties: false },
    ),
    { default: municipalities, description: 'municipalities that certificates are issued for' },
  ),
};
